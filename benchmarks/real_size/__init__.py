"""What steps of models of real size cost: measured on the meta device, on a GPU, and beside the plan."""
