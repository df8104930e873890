"""What every model needs and no model owns: data, training, cost, export."""
