"""What a step of a run is: what comes next, what it is given and leaves, what may end it before its end."""
