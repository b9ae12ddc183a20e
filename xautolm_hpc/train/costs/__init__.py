"""What steps cost: what autograd keeps, operations, the speed of a device; and where the seconds of a training went."""
