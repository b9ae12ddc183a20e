"""Changes of TOML files, line by line: values, keys, sections."""

import random
from pathlib import Path

ODD = (
    "nan", "inf", "-inf", "1e400", "-1", "0", "0.0", "9" * 400, "9" * 5_000, "1e308", "1e-300", "true", '""', '"x"',
    '"../../x"', '"/etc/passwd"', '"/dev/zero"', '"\\u0000"', '"a\\nb"', '"%j"', "[]", "{}", "[[]]",
    "{ low = 1, high = 0 }",
    "{ low = nan, high = 1 }", "{ low = 1e-400, high = 1, log = true }", "{ low = 0, high = inf }",
    "1979-05-27", "07:32:00",
    "[" * 900 + "]" * 900, '"' + "x" * 70_000 + '"', '["f1", "f1"]', '["minilm-l1", 3]', "[1, 2.5, true]", "'''a'''",
)  # fmt: skip
"""Values in TOML."""


def mutate_toml(path: Path, rng: random.Random) -> str:
    """Change one to three lines; returns what was done."""
    lines = path.read_text().splitlines()
    done = []
    for _ in range(rng.randint(1, 3)):
        usable = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
        if not usable:
            break
        at = rng.choice(usable)
        lines[at] = _change_line(lines[at], rng)
        done.append(f"line {at + 1}: {lines[at][:60]}")
    path.write_text("\n".join(lines) + "\n")
    return f"mutate_toml {done}"


def _change_line(line: str, rng: random.Random) -> str:
    """Change the value, the key or the place of one line."""
    key, is_value, value = line.partition("=")
    kind = rng.random()
    if kind < 0.08:
        return ""
    if kind < 0.14:
        return f"{line}\n{line}"
    if not is_value or line.startswith("["):
        return rng.choice(
            ["[x]", "[[model]]", "[data]", "[space.params.full]", "[", f"[{'a.' * 500}a]", f"{line}\nx = 1"]
        )
    if kind < 0.2:
        return f"{key.rstrip()}_x ={value}"
    return f"{key}= {rng.choice(ODD)}"
