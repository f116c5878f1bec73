"""Statistics: intervals, paired tests, power, sequential tests, agreement."""
