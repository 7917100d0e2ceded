"""The tool on the PC: transports, protocol, capture store, builds, simulation, command line."""
