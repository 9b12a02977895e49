"""Tables: graphical models over declared domains, fitted to noised marginals."""
