"""Extensions of Sphinx for this site: what it shows of the code is read from the code."""
