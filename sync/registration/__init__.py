"""The registration of the three webhooks at upstream: made when a person asks, and kept from then on."""
