"""Pure decisions: what a snapshot of a customer does to the mirror's record.

No I/O, no clock, no randomness: times come in as arguments, so that each rule can be tried by hand.
"""
