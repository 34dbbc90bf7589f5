"""The parts of ``benchmarks.forecasting``: the panels, the figures, and one module for each library that forecasts."""
