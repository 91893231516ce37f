"""From data to one HTML file."""
