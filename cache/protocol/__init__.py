"""The messages of the Remote Execution API, and the code that protoc makes of them."""
