"""What users say and send once a release answers, looked at."""
