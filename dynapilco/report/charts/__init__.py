"""Charts as values: drawn by the page's script, and by matplotlib for papers."""
