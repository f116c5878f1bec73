"""What the steps of a run do: freeze, plan, examine, climb rung by rung, look once at the sealed test."""
