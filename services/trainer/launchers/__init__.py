"""Where training runs: child processes of this machine."""
