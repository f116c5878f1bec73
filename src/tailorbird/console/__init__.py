"""The web pages, server-rendered. Nothing is here yet."""
