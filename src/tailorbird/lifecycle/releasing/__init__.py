"""What people do to a release: review, approve, stage, let in by degrees, take back, take out of the house."""
