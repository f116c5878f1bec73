"""What tailorbird needs from outside, as small Protocols, one noun a file. Nothing here does anything."""
