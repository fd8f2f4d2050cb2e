"""How does JSON become a message, and a message JSON? Pure functions."""
