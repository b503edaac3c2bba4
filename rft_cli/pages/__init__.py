"""A run as a page: one HTML file that needs nothing else, or Markdown for a pull request."""
