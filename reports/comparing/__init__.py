"""A comparison of runs as text for people and programs: rows of cells, Markdown, JUnit XML, one HTML page."""
