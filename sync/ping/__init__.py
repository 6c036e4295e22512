"""A signed ping through the public URL: which hop of a webhook's way fails, and what to do.

The name is resolved, TLS is spoken, a proxy may stand between, the receiver verifies and stores it, the
worker gives it a verdict. Nothing of it reaches a customer.
"""
