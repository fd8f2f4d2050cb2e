"""What happens when a deployment's time moves on: panes looked at, windows, comparisons and blocks closed, decisions taken."""
