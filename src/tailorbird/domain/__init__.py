"""The words of tailorbird, one noun a file: frozen values and state machines. Standard library and pydantic only."""
