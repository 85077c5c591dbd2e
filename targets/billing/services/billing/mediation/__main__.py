"""``python -m billing.mediation``."""

from billing.mediation.service import main

if __name__ == "__main__":
    main()
