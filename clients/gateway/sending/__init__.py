"""From a study here to packs at the relay, an answered question and a receipt."""
