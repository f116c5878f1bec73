"""A run on its way: from an objective to leased steps, one after the other, until none is left."""
