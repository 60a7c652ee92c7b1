"""From frames alone: linear projections, characterisation, reports."""
