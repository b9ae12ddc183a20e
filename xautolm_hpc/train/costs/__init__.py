"""What a step costs, measured without training: what autograd keeps, the operations, the speed of a device."""
