"""The pages, one noun a file. Each asks the control plane and fills a template."""
