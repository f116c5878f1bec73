"""What the steps of a run do: freeze, plan, examine, climb rung by rung, look at the sealed test."""
