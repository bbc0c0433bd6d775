"""What the command line does, one module a command; heavy imports happen inside the functions."""
