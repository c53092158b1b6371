"""What a source of a graph is: given with each run, trained, kept from run to run, or a number."""

INPUT, PARAMETER, STATE, CONSTANT = "input", "parameter", "state", "constant"
SOURCE_ROLES = (INPUT, PARAMETER, STATE, CONSTANT)
