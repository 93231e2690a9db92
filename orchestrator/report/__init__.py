"""Report on one or several sweeps: figures as JSON, as a self-contained HTML file, and as PNG images."""
