"""What a run has led to and why, gathered for people."""
