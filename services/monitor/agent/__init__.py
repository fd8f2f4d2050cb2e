"""The Faust agent: from records of the data topics to one transaction a second."""
