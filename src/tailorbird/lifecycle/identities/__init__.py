"""Who comes in: people, programs, tenants, their sessions, and until when they are known."""
