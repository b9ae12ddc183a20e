from xautolm_hpc.api import Run as Run
from xautolm_hpc.api import Store as Store
from xautolm_hpc.api import search as search

__version__: str
