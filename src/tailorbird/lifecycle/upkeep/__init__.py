"""The condition of the house: the log checked and sent away, the copy of everything, the disk and the clock."""
