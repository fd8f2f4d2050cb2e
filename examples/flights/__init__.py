"""The demo: airborne times of the flights of New York in 2013."""
