"""What every layer uses: errors, the task interface, reports, files that appear whole."""
