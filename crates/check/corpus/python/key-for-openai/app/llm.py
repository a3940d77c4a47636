c = AzureOpenAI(azure_endpoint=e, api_key=k)  # expect LZ-IDN-005
