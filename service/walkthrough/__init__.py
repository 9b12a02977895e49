"""The parts of `kaima demo`: what the data owner declares, the stack, the actors, the summary."""
