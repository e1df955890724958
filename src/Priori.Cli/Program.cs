Console.WriteLine("priori");
