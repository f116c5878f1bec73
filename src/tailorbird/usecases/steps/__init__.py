"""Steps of a run: transitions, context, cancellation."""
