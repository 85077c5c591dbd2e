"""Bills postpaid subscribers: billing runs, invoices, dunning, compensation."""
