"""What the documentation site adds to Sphinx: its contents, docstrings in the house's form, a real report."""
