"""Who may speak to the broker: certificate authority, registry of fleets and devices, broker configuration."""
