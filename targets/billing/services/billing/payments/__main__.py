from billing.payments.service import main

main()
