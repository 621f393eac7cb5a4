"""The log: writers put segments, the sequence seals them, readers take them in order, verify proves it."""
