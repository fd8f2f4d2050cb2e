"""What a job is and how it is judged: pure values and functions."""
