"""Networks that know something already, taught one's own classes: which stages learn, and features that are kept."""
