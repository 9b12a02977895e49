"""What the service is about: plain classes, tables of states, permissions. No framework."""
